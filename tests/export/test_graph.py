import numpy as np
import torch

from bootleg_export.samples import natural_noise


def test_the_embedding_is_the_mean_patch_token_of_the_normalised_image(serving_graph, encoder):
    pixels = natural_noise(3, 32, 32)
    images = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(images.astype(np.float32))).patches
        embedding, patch_tokens, _, _ = serving_graph(torch.from_numpy(pixels))
    torch.testing.assert_close(embedding, tokens.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(patch_tokens.flatten(1, 2), tokens, rtol=1e-5, atol=1e-5)


def test_layers_are_the_patch_rows_behind_each_block_asked_for_and_their_means(serving_graph, encoder):
    pixels = torch.from_numpy(natural_noise(2, 32, 32))
    images = (pixels.float() / 255 - serving_graph.mean) / serving_graph.std
    with torch.no_grad():
        taps = encoder(images, taps=(1, 2, 3)).taps
        _, _, layers, tokens = serving_graph(pixels)
    assert layers.shape == (2, 3, 32)
    assert tokens.shape == (2, 3, 8, 8, 32)
    for row, tap in enumerate(taps):
        torch.testing.assert_close(layers[:, row], tap.mean(1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tokens[:, row].flatten(1, 2), tap, rtol=1e-5, atol=1e-5)


def test_rows_of_the_patch_grid_are_rows_of_the_image(serving_graph):
    plain = np.full((1, 32, 32, 3), 128, np.uint8)
    marked = plain.copy()
    marked[0, 0:4, 28:32] = 255  # the last patch of the first row
    with torch.no_grad():
        change = serving_graph(torch.from_numpy(marked))[1] - serving_graph(torch.from_numpy(plain))[1]
    strength = change[0].norm(dim=-1)
    assert divmod(int(strength.argmax()), 8) == (0, 7)
