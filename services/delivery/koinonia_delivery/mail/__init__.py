"""Ways of an e-mail to its server: SMTP, SendGrid's API, or a file. None of them retries."""
