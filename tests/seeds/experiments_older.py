"""The code blocks of the published client's older page about experiments, as they stand there."""

from __future__ import annotations

# Three usage styles: context manager
CONTEXT_MANAGER = """\
from ml_dash import Experiment

# Prefix format: owner/project/experiment-name
with Experiment(prefix="alice/project/my-experiment").run as exp:
    exp.log("Training started")
    exp.params.set(learning_rate=0.001)
    # Experiment automatically closed on exit
"""

# Three usage styles: decorator
DECORATOR = """\
from ml_dash import ml_dash_experiment

@ml_dash_experiment(prefix="alice/project/my-experiment")
def train_model(experiment):
    experiment.log("Training started")
    experiment.params.set(learning_rate=0.001)

    for epoch in range(10):
        loss = train_epoch()
        experiment.metrics("train").log(loss=loss, epoch=epoch)

    return "Training complete!"

result = train_model()
"""

# Three usage styles: direct
DIRECT = """\
from ml_dash import Experiment

exp = Experiment(prefix="alice/project/my-experiment")
exp.run.start()

try:
    exp.log("Training started")
    exp.params.set(learning_rate=0.001)
finally:
    exp.run.complete()
"""

# Automatic path detection with RUN
ENTRY = """\
from ml_dash import RUN, Experiment

# Set entry point - RUN auto-detects project root and computes prefix
RUN.entry = __file__

# Now use the auto-computed prefix
with Experiment(
    prefix=f"{RUN.user}/{RUN.project}/{RUN.path_stem}",
    dash_root=".dash"
).run as exp:
    exp.log(f"Running from {RUN.entry}")
    exp.params.set(script=str(RUN.entry))
"""

# For sweeps, use the sweep directory
SWEEP = """\
from ml_dash import RUN, Experiment
from pathlib import Path

# Point to sweep directory instead of __file__
sweep_dir = Path(__file__).parent
RUN.entry = str(sweep_dir)

# Each job gets organized under the sweep path
for job_id, config in enumerate(sweep_configs):
    with Experiment(
        prefix=f"{RUN.user}/{RUN.path_stem}/job_{job_id:03d}"
    ).run as exp:
        exp.params.set(**config)
"""

# Local mode
LOCAL_MODE = """\
with Experiment(
    prefix="alice/project/my-experiment",
    dash_root=".dash"
).run as exp:
    exp.log("Using local storage")
"""

# Remote mode
REMOTE_MODE = """\
with Experiment(
    prefix="alice/project/my-experiment",
    dash_url="https://api.dash.ml"
).run as exp:
    exp.log("Using remote server")
"""

# Experiment metadata
METADATA = """\
with Experiment(
    prefix="alice/computer-vision/resnet50-imagenet",
    description="ResNet-50 training with new augmentation",
    tags=["resnet", "imagenet", "baseline"],
    bindrs=["gpu-cluster", "team-a"]
).run as exp:
    exp.log("Training started")
"""

# Automatic status management
AUTOMATIC_STATUS = """\
# Normal completion - status becomes COMPLETED
with Experiment(
    prefix="alice/ml/training",
    dash_url="https://api.dash.ml"
).run as exp:
    exp.log("Training...")
    # Status automatically set to COMPLETED on exit

# Exception handling - status becomes FAILED
with Experiment(
    prefix="alice/ml/training",
    dash_url="https://api.dash.ml"
).run as exp:
    exp.log("Training...")
    raise ValueError("Training failed!")
    # Status automatically set to FAILED on exception
"""

# Manual status control
MANUAL_STATUS = """\
from ml_dash import Experiment

exp = Experiment(
    prefix="alice/ml/training",
    dash_url="https://api.dash.ml"
)
exp.run.start()

try:
    exp.log("Training...")
    # ... training code ...
    exp.run.complete()
except KeyboardInterrupt:
    exp.run.cancel()
except Exception as e:
    exp.log(f"Error: {e}")
    exp.run.fail()
"""

# Resuming experiments
RESUMING = """\
# First run
with Experiment(prefix="alice/ml/long-training").run as exp:
    exp.log("Starting epoch 1")
    exp.metrics("train").log(loss=0.5, epoch=1)

# Later - continues same experiment
with Experiment(prefix="alice/ml/long-training").run as exp:
    exp.log("Resuming from checkpoint")
    exp.metrics("train").log(loss=0.3, epoch=2)
"""

# Available operations
OPERATIONS = """\
with Experiment(prefix="alice/test/demo").run as exp:
    # Logging
    exp.log("Training started", level="info")

    # Parameters
    exp.params.set(lr=0.001, batch_size=32)

    # Metrics tracking
    exp.metrics("train").log(loss=0.5, epoch=1)

    # File uploads
    exp.files("models").save("model.pth")
"""
