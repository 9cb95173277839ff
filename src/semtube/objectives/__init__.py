"""What is minimised beside next-token prediction: tensors in, a LossTerm out."""
