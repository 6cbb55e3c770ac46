"""A check that what watches a metric knows whether lower is better."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config

from mmsnnet.errors import UserError
from mmsnnet.settings import is_named, name_of_type
from mmsnnet.stitching import direction

EARLY_STOPPING = 'EarlyStoppingHook'


def check_rules(cfg: Config) -> None:
    """Refuse to keep the best checkpoint, or to stop early, by an error without ``rule='less'``.

    MMEngine does not know of errors, such as RMSE, that lower is better. It stops where it finds no rule, and by
    ``rule='greater'`` it keeps the worst checkpoint.

    Raises:
        UserError: naming the setting.
    """
    for where, setting, metric, rule in _watched(cfg):
        if metric == 'auto' and _has_depth_metric(cfg):
            raise UserError(
                f"{where} has {setting}='auto', which takes the first metric, whether lower is better or not: name "
                f"one, {setting}='rmse' and rule='less'"
            )
        # MMEngine finds out by itself that a loss is better when lower.
        is_missing = rule is None and 'loss' not in metric
        if direction(metric) < 0 and (rule == 'greater' or is_missing):
            raise UserError(
                f'{where} has {setting}={metric!r}, of which lower is better, but rule={rule!r}: set '
                f"{where}.rule='less'"
            )


def _watched(cfg: Config) -> Iterator[tuple[str, str, str, str | None]]:
    """Where a metric is watched, by which setting, its name and its rule."""
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    metrics, rules = (_listed(checkpoint.get(key)) for key in ('save_best', 'rule'))
    rules = rules * len(metrics) if len(rules) == 1 else rules
    for metric, rule in zip(metrics, rules, strict=False):
        if metric:
            yield 'default_hooks.checkpoint', 'save_best', metric, rule
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        if isinstance(hook, Mapping) and is_named(hook, EARLY_STOPPING):
            yield f'custom_hooks.{index}', 'monitor', hook['monitor'], hook.get('rule')


def _has_depth_metric(cfg: Config) -> bool:
    metrics = _listed(cfg.get('val_evaluator'))
    return any(name_of_type(metric['type']).endswith('DepthMetric') for metric in metrics if metric)


def _listed(value: object) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]
