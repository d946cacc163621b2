DROP TABLE phone_codes, own_phones;
