from . import layers as layers
from . import recipe as recipe
from .api import explain as explain
from .api import listing as listing
from .api.check import check as check
from .api.compare import compare as compare
from .api.convert import convert as convert
from .api.diagnose import diagnose as diagnose
from .api.discover import discover as discover
from .api.evaluate import evaluate as evaluate
from .api.export import export as export
from .api.load import load as load
from .api.solve import solve as solve
from .api.sweep import sweep as sweep
from .api.train import train as train
from .api.tune import tune as tune
from .errors import DeepTaxiError as DeepTaxiError
from .learning.callbacks import StopTraining as StopTraining
from .mdp.table import TransitionTable as TransitionTable

__version__: str
