"""Static reading of uploads: numpy, h5py, pyarrow and Pillow, never TensorFlow."""
