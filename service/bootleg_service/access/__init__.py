"""Who may ask, and how much: API keys from a file, hashed, and a quota of images for each."""
