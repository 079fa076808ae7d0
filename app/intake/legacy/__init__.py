"""Files of Keras 2, mended so that they compute under Keras 3 what they computed there.

`mend` plans and writes; the other modules each know one difference between the two.
"""

from app.intake.legacy.mend import check_backend, convert, is_legacy, mend_file, plan_mends

__all__ = ["check_backend", "convert", "is_legacy", "mend_file", "plan_mends"]
