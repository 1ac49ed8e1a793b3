"""Charts: what one shows (`figure`), its axes, and pictures of it as SVG and PNG."""
