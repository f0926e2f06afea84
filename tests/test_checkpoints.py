from act2see.checkpoints import fingerprint


def test_a_pipelines_weights_lie_in_folders_of_its_own_and_count(tmp_path):
    told = set()
    for place, weights in (("model", b"a"), ("unet/model", b"a"), ("unet/model", b"b")):
        file = tmp_path / f"{place}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)
        told.add(fingerprint(tmp_path))
    assert len(told) == 3 and fingerprint("a hub/name") == "a hub/name"
