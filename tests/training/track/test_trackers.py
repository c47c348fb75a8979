import sys
import types

import pytest

from bootleg_bundle.errors import ConfigError
from bootleg_training.track.trackers import Guarded, open_tracker


class Failing:
    def log(self, step, numbers):
        raise ConnectionError("no network")

    def close(self):
        raise OSError("disk full")


def test_a_failing_tracker_is_counted_and_said_once(caplog):
    tracker = Guarded("wandb", Failing())
    for step in range(3):
        tracker.log(step, {})
    assert tracker.failures == 3
    assert [record.message for record in caplog.records] == [
        "tracker wandb fails (ConnectionError); the run goes on without it"
    ]
    tracker.close()
    assert tracker.failures == 4
    assert caplog.records[-1].message == "tracker wandb failed 4 times; metrics.jsonl has everything"


def test_an_interrupted_run_is_not_swallowed():
    class Interrupting(Failing):
        def log(self, step, numbers):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guarded("wandb", Interrupting()).log(0, {})


def test_an_unknown_tracker_is_refused(tmp_path, config):
    with pytest.raises(ConfigError, match="'aim': use tensorboard, wandb, mlflow"):
        open_tracker("aim", tmp_path, config)


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_extra_answers_with_the_line_to_install(name, module, tmp_path, config, monkeypatch):
    for known in [known for known in sys.modules if known.startswith(("torch.utils.tensorboard", "tensorboard"))]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'bootleg-vision\[{name}\]'"):
        open_tracker(name, tmp_path, config)


def test_tensorboard_writes_events_that_it_can_read(tmp_path, config):
    pytest.importorskip("tensorboard")
    tracker = open_tracker("tensorboard", tmp_path, config)
    tracker.log(20, {"loss": 0.5, "explained/0": 0.25})
    tracker.log(40, {"loss": 0.25})
    tracker.close()
    assert tracker.failures == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(20, 0.5), (40, 0.25)]
    assert [event.value for event in events.Scalars("explained/0")] == [0.25]


@pytest.mark.parametrize(("from_step", "expected"), [(20, [10, 20, 30]), (0, [30])])
def test_tensorboard_shows_steps_that_a_crashed_run_logged_once(tmp_path, config, from_step, expected):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for again, steps in ((0, (10, 20, 30, 40)), (from_step, (30,))):
        tracker = open_tracker("tensorboard", tmp_path, config, from_step=again)
        for step in steps:
            tracker.log(step, {"loss": 0.5})
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == expected


@pytest.fixture
def wandb(monkeypatch):
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**settings):
        run = types.SimpleNamespace(settings=settings, logged=[], finished=0)
        run.log = lambda numbers, step: run.logged.append((step, numbers))
        run.finish = lambda: setattr(run, "finished", run.finished + 1)
        module.runs.append(run)
        return run

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_the_run_s_numbers_and_settings(tmp_path, config, wandb):
    tracker = open_tracker("wandb", tmp_path, config)
    tracker.log(20, {"loss": 0.5})
    tracker.close()
    (run,) = wandb.runs
    assert (run.logged, run.finished) == ([(20, {"loss": 0.5})], 1)
    assert run.settings["config"] == config.model_dump(mode="json")
    assert (run.settings["dir"], run.settings["name"]) == (str(tmp_path), config.name)


def test_a_resumed_run_goes_on_in_its_wandb_run_and_another_does_not(tmp_path, config, wandb):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path, tmp_path / "other"):
        open_tracker("wandb", folder, config)
    first, again, other = (run.settings["id"] for run in wandb.runs)
    assert first == again != other
    assert all(run.settings["resume"] == "allow" for run in wandb.runs)


def test_a_tracker_that_does_not_start_refuses_the_run(tmp_path, config, wandb):
    def broken(**settings):
        raise PermissionError("secret key abc")

    wandb.init = broken
    with pytest.raises(ConfigError, match="wandb does not start") as caught:
        open_tracker("wandb", tmp_path, config)
    assert "abc" not in caught.value.message


class Client:
    made = ()

    def __init__(self, tracking_uri):
        self.tracking_uri = tracking_uri
        self.experiments, self.runs, self.params, self.batches, self.ended = {}, [], {}, [], []
        Client.made = (*Client.made, self)

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name, artifact_location):
        self.artifacts = artifact_location
        self.experiments[name] = types.SimpleNamespace(experiment_id="7")
        return "7"

    def create_run(self, experiment_id, run_name):
        self.runs.append((experiment_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-1"))

    def log_param(self, run_id, key, value):
        self.params[key] = value

    def log_batch(self, run_id, metrics):
        self.batches.append((run_id, [(m.key, m.value, m.step) for m in metrics]))

    def set_terminated(self, run_id):
        self.ended.append(run_id)


@pytest.fixture
def mlflow(monkeypatch):
    Client.made = ()
    module, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    module.MlflowClient = Client
    module.is_tracking_uri_set = lambda: module.server is not None
    module.server = None
    entities.Metric = lambda key, value, timestamp, step: types.SimpleNamespace(key=key, value=value, step=step)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return module


def test_mlflow_keeps_its_files_in_the_run_folder(tmp_path, config, mlflow):
    tracker = open_tracker("mlflow", tmp_path, config)
    tracker.log(20, {"loss": 0.5})
    tracker.close()
    (client,) = Client.made
    assert client.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert client.artifacts == (tmp_path / "mlartifacts").as_uri()
    assert client.runs == [("7", config.name)]
    assert client.batches == [("run-1", [("loss", 0.5, 20)])]
    assert client.ended == ["run-1"]
    assert client.params["encoder.width"] == 32


def test_a_resumed_run_goes_on_in_its_mlflow_run(tmp_path, config, mlflow):
    for _ in range(2):
        open_tracker("mlflow", tmp_path, config).log(1, {"loss": 1.0})
    assert [len(client.runs) for client in Client.made] == [1, 0]
    assert Client.made[1].batches == [("run-1", [("loss", 1.0, 1)])]


def test_mlflow_s_own_server_is_used_where_one_is_set(tmp_path, config, mlflow):
    mlflow.server = "http://tracking"
    open_tracker("mlflow", tmp_path, config)
    assert (Client.made[0].tracking_uri, Client.made[0].artifacts) == (None, None)
