"""Articles from the data that a user has: files, folders of `datasets`, datasets on the Hub; in the columns of MSMO's records."""
