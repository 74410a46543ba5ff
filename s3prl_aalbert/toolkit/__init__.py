"""The only floor that imports s3prl: registration, compatibility, running."""
