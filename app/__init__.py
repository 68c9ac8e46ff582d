"""The front ends: web page and command line. They know the backend; the backend never knows them."""
