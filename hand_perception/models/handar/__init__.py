"""HandAR (Tang et al., ICCV 2021): a mesh that lies on the image. It reads a crop around a hand."""
