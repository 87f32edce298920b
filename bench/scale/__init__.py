"""`python -m bench scale`: what one Redis bears when many pods track its keys."""
