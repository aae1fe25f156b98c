"""What stands between other machines and Serve's own HTTP server."""
