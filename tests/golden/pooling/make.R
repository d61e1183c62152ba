# Reference figures of analysis/statistics/pooling.py.
# Run in this folder: Rscript make.R
suppressMessages({library(metafor); library(jsonlite)})
sets <- list(
  four = list(y = c(0.31, 0.12, 0.45, 0.20), se = c(0.08, 0.10, 0.15, 0.06)),
  alike = list(y = c(0.30, 0.31, 0.29), se = c(0.10, 0.12, 0.11)),
  two = list(y = c(0.05, 0.40), se = c(0.07, 0.09)),
  eight = list(y = c(-0.2, 0.6, 0.1, 0.9, 0.3, 0.35, -0.05, 0.5), se = c(0.1, 0.2, 0.12, 0.3, 0.05, 0.07, 0.11, 0.4)))
one <- function(s) {
  tight <- list(threshold = 1e-14, maxiter = 10000)
  hk <- rma(s$y, sei = s$se, method = "REML", test = "adhoc", control = tight)
  wald <- rma(s$y, sei = s$se, method = "REML", control = tight)
  fixed <- rma(s$y, sei = s$se, method = "FE")
  k <- length(s$y)
  reach <- if (k > 2) qt(0.975, k - 2) * sqrt(wald$tau2 + wald$se^2) else NA
  list(y = s$y, se = s$se, estimate = as.numeric(hk$beta), hk_se = hk$se, low = hk$ci.lb, high = hk$ci.ub,
       p = hk$pval, tau2 = hk$tau2, q = hk$QE, p_heterogeneity = hk$QEp, i2 = max(0, (fixed$QE - (k - 1)) / fixed$QE),
       prediction_low = as.numeric(wald$beta) - reach, prediction_high = as.numeric(wald$beta) + reach,
       fixed = as.numeric(fixed$beta), fixed_se = fixed$se)
}
write(toJSON(c(lapply(sets, one), list(versions = list(r = as.character(getRversion()),
  metafor = as.character(packageVersion("metafor"))))), digits = 15, auto_unbox = TRUE, pretty = TRUE, na = "null"),
  "expected.json")
