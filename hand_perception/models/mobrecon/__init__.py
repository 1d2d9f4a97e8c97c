"""MobRecon (Chen et al., CVPR 2022): the light engine. It reads a crop around one hand."""
