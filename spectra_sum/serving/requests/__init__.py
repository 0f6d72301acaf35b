"""What a request holds, from the bytes of its body to a document."""
