"""What visitors of the app and clients of the server send: checked, and read into documents."""
