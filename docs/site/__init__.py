"""What makes the site of the documents: `make docs` builds it, `make figures` and `make screenshots` its pictures."""
