"""What a job says of itself: verdict and report.html."""
