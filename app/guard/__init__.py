"""What stands between strangers and the page: which addresses answer, what may be sent, what answers carry."""
