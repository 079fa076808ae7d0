"""Makes app/examples/: a small model and small data, real digits, for the examples in Swagger UI.

The digits are scikit-learn's 1,797 images of 8x8 pixels (UCI optical recognition of handwritten
digits). Run it with: .venv/bin/python examples/make_digits.py
"""

from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

OUT = Path(__file__).parent.parent / "app" / "examples"


def main() -> None:
    """Train for a minute at most, write both files."""
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.astype(np.uint8),
        y.astype(np.uint8),
        test_size=0.25,
        random_state=0,
        stratify=y,
    )
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(
        OUT / "digits.npz",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
    )
    model = keras.Sequential(
        [
            keras.Input((64,), name="pixels"),
            keras.layers.Dense(128, activation="relu", name="hidden_1"),
            keras.layers.Dense(64, activation="relu", name="hidden_2"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train / 16.0, y_train, epochs=30, batch_size=32, verbose=0)
    loss, accuracy = model.evaluate(x_test / 16.0, y_test, verbose=0)
    print(f"accuracy {accuracy:.4f} on {len(y_test)} test digits (loss {loss:.4f})")
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    # Compiled again with an optimizer that has no state yet: the file stays small.
    plain.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    plain.save(OUT / "digits.keras")


if __name__ == "__main__":
    main()
