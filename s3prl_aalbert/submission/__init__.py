"""What leaves the project: the folder for S3PRL's Hugging Face hub, serving graphs, the SUPERB submission."""
