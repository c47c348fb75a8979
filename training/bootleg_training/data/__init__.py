"""Images: sources, packs, sample order, augmentation."""
