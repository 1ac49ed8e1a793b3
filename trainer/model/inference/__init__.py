"""What only decoding needs: caches, packed weights."""
