"""lime's explainers of tables, in place of ``lime.lime_tabular``."""

from torchlime.compat.discretize import BaseDiscretizer as BaseDiscretizer
from torchlime.compat.discretize import DecileDiscretizer as DecileDiscretizer
from torchlime.compat.discretize import EntropyDiscretizer as EntropyDiscretizer
from torchlime.compat.discretize import QuartileDiscretizer as QuartileDiscretizer
from torchlime.compat.discretize import StatsDiscretizer as StatsDiscretizer
from torchlime.compat.recurrent import RecurrentTabularExplainer as RecurrentTabularExplainer
from torchlime.compat.table_mapper import TableDomainMapper as TableDomainMapper
from torchlime.compat.tabular_explainer import LimeTabularExplainer as LimeTabularExplainer
