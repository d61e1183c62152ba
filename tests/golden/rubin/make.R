# Reference figures of analysis/statistics/missing.py. Run from tests/golden/rubin: Rscript make.R
Sys.setenv(TZ = "UTC")
suppressMessages({library(mice); library(mitools); library(survival); library(jsonlite)})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")

# --- m fits of imputed tables ---------------------------------------------------------------------
lung <- read.csv("../survival/data/lung.csv")
lung <- lung[!is.na(lung$ph.ecog), c("time", "status", "age", "sex", "ph.ecog", "wt.loss", "meal.cal")]
lung_imputed <- mice(lung, m = 8, seed = 20240412, printFlag = FALSE)
lung_mira <- with(lung_imputed,
  coxph(Surv(time, status == 2) ~ age + sex + wt.loss + meal.cal))
nhanes_imputed <- mice(nhanes, m = 5, seed = 20240412, printFlag = FALSE)
nhanes_mira <- with(nhanes_imputed, lm(chl ~ age + bmi))

fit_out <- function(f) {
  v <- vcov(f)
  dimnames(v) <- NULL
  out <- list(terms = names(coef(f)), coef = unname(coef(f)), covariance = v)
  if (inherits(f, "coxph")) c(out, list(n = f$n, n_events = f$nevent)) else c(out, list(n = nobs(f)))
}
pool_out <- function(mira, dfcom = NULL, level = 0.95) {
  s <- summary(pool(mira, dfcom = dfcom), type = "all", conf.int = TRUE, conf.level = level)
  list(
    complete_df = if (is.infinite(s$dfcom[1])) "Inf" else s$dfcom[1],
    estimates = data.frame(term = as.character(s$term), coef = s$estimate, se = s$std.error,
                           t = s$statistic, df = s$df, p = s$p.value,
                           lo = s[[grep("^[0-9.]+ %$", names(s))[1]]],
                           hi = s[[grep("^[0-9.]+ %$", names(s))[2]]],
                           riv = s$riv, lambda = s$lambda, fmi = s$fmi),
    covariance = unname(MIcombine(mira$analyses)$variance)
  )
}

# --- D1, from the papers: Li, Raghunathan, Rubin 1991; Reiter 2007, equations 1 and 2 -------------
d1 <- function(fits, terms, dfcom) {
  m <- length(fits); k <- length(terms)
  Q <- t(sapply(fits, function(f) coef(f)[terms]))
  U <- Reduce(`+`, lapply(fits, function(f) vcov(f)[terms, terms])) / m
  r <- (1 + 1 / m) * sum(diag(cov(Q) %*% solve(U))) / k
  q <- colMeans(Q)
  f <- drop(q %*% solve(U) %*% q) / (k * (1 + r))
  nu <- k * (m - 1)
  if (is.finite(dfcom) && nu > 4) {
    method <- "reiter-2007"
    a <- r * nu / (nu - 2); vs <- dfcom * (dfcom + 1) / (dfcom + 3); g <- vs - 2 * (1 + a)
    h <- vs - 4 * (1 + a)
    df2 <- 4 + (1 / h + 1 / (nu - 4) * (a^2 * g / ((1 + a)^2 * h) + 8 * a^2 * g / ((1 + a) * h^2) +
      4 * a^2 / ((1 + a) * h) + 4 * a^2 / (h * g) + 16 * a^2 * g / h^3 + 8 * a^2 / h^2))^-1
  } else {
    method <- "li-1991"
    df2 <- if (nu > 4) 4 + (nu - 4) * (1 + (1 - 2 / nu) / r)^2 else nu * (1 + 1 / k) * (1 + 1 / r)^2 / 2
  }
  list(terms = terms, n_fits = m, complete_df = if (is.finite(dfcom)) dfcom else "Inf", f = f, df1 = k,
       df2 = df2, p = pf(f, k, df2, lower.tail = FALSE), riv = r, method = method)
}

# --- single figures: Harrell's C in each table ----------------------------------------------------
c_of <- lapply(lung_mira$analyses, concordance)
q <- sapply(c_of, `[[`, "concordance"); u <- sapply(c_of, `[[`, "var")
scalar <- function(n) {
  s <- pool.scalar(q, u, n = n, k = 1)
  list(complete_df = if (is.finite(n)) n - 1 else "Inf", estimate = s$qbar, within = s$ubar,
       between = s$b, se = sqrt(s$t), df = s$df, riv = s$r, fmi = s$fmi,
       lo = s$qbar - qt(0.975, s$df) * sqrt(s$t), hi = s$qbar + qt(0.975, s$df) * sqrt(s$t))
}

lung_fits <- lung_mira$analyses; nhanes_fits <- nhanes_mira$analyses
expected <- list(
  versions = list(R = R.version.string, mice = as.character(packageVersion("mice")),
                  mitools = as.character(packageVersion("mitools")),
                  survival = as.character(packageVersion("survival")),
                  jsonlite = as.character(packageVersion("jsonlite"))),
  lung = list(fits = lapply(lung_fits, fit_out), pooled = pool_out(lung_mira),
              pooled_90_infinite = pool_out(lung_mira, dfcom = Inf, level = 0.9)),
  nhanes = list(fits = lapply(nhanes_fits, fit_out), pooled = pool_out(nhanes_mira)),
  d1 = list(
    lung = list(
      d1(lung_fits, c("wt.loss", "meal.cal"), 160),
      d1(lung_fits, c("age", "sex", "wt.loss", "meal.cal"), 160),
      d1(lung_fits, c("wt.loss", "meal.cal"), Inf),
      d1(lung_fits[1:3], c("wt.loss", "meal.cal"), 160)),
    nhanes = list(d1(nhanes_fits, c("age", "bmi"), 22), d1(nhanes_fits, c("age", "bmi"), Inf))
  ),
  scalar = list(estimates = q, variances = u, finite = scalar(228), infinite = scalar(Inf))
)
write_json(expected, "expected.json", auto_unbox = TRUE, digits = NA, pretty = TRUE, na = "null")
