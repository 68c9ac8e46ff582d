"""Many samples of one model: what is asked, a folder that a killed measurement goes on from, a process for it."""
