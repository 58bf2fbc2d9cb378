"""What pages and their servers share: the guard, static files, error answers, the HTML shell."""
