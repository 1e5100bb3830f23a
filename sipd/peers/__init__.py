"""Trunks, and whether phones and trunks answer: registrations of our own, qualify."""
