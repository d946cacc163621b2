"""What tests of every service use: private servers, databases, buses, builders."""
