"""Many registrations: one folder a pair, one table and one page over all of them."""
