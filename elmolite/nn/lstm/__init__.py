"""LSTM with projection and clipping: reference, training, inference, CPU and GPU cells."""
