"""masks, scores, weights → Fit."""

from torchlime.fit import Fit as Fit
from torchlime.surrogates.bayesian_ridge import BayesianRidge as BayesianRidge
from torchlime.surrogates.constrained import ConstrainedLeastSquares as ConstrainedLeastSquares
from torchlime.surrogates.lasso import Lasso as Lasso
from torchlime.surrogates.least_squares import LeastSquares as LeastSquares
from torchlime.surrogates.marginal import MarginalContributions as MarginalContributions
from torchlime.surrogates.marginal_mean import MarginalMean as MarginalMean
from torchlime.surrogates.mean_drop import MeanDrop as MeanDrop
from torchlime.surrogates.ridge import Ridge as Ridge
from torchlime.surrogates.sign_entropy import SignEntropy as SignEntropy
