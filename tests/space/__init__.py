"""The program as a Hugging Face Space starts it."""
