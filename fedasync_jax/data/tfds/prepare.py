"""Prepare a data set with TensorFlow Datasets: a program for a process of its own.

``python -m fedasync_jax.data.tfds.prepare NAME DIR`` downloads into DIR/downloads and
writes DIR/NAME/<version>. This one step needs TensorFlow, which the process that trains
is spared. Where it fails, the last line on stderr says why.
"""

import sys

from fedasync_jax.data.tfds.prepared import FILE_FORMAT, one_line


def prepare(name: str, data_dir: str) -> None:
    """Download and write a data set, unless it lies there.

    Until all is written, TensorFlow Datasets writes into a folder of another name.
    """
    import tensorflow_datasets as tfds  # pyright: ignore[reportMissingImports]

    builder = tfds.builder(name, data_dir=data_dir, file_format=FILE_FORMAT)
    # From the source alone: what is prepared in the cloud is in another format.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)


def main() -> None:
    """Run the program."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m fedasync_jax.data.tfds.prepare NAME DIR")
    try:
        prepare(*sys.argv[1:])
    # Whatever the libraries below raise: they have no common type.
    except Exception as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()
