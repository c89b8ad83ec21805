"""Settings of the whole suite: shapes must agree without hidden broadcasting, examples repeat, programs are kept."""

import hypothesis
import jax

from ganmrf.parallel import keep_compiled_programs

keep_compiled_programs()
jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("ganmrf", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("ganmrf")
