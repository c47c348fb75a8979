"""From a checkpoint to a verified bundle. Imports the bundle's contract, the model and the checkpoint reader."""
