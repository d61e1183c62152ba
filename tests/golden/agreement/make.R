# Reference figures of analysis/statistics/agreement/bland_altman.py and regression.py.
# Run from tests/golden/agreement: Rscript make.R
Sys.setenv(TZ = "UTC")
suppressMessages({library(epiR); library(jsonlite)})
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
set.seed(20240412)

# --- synthetic people: a shrunken prediction with ties, and two measurements of one quantity ------
n <- 120
sex <- ifelse(runif(n) < 0.5, "female", "male")
true <- rnorm(n, ifelse(sex == "female", 85, 115), 18)
people <- data.frame(
  sex = sex,
  reference = round(true + rnorm(n, sd = 4)),
  predicted = round(100 + 0.55 * (true - 100) + rnorm(n, sd = 9)),
  method_a = round(2 * (true + rnorm(n, sd = 5))) / 2,
  method_b = round(2 * (3 + 1.04 * true + rnorm(n, sd = 7))) / 2
)
write.csv(people, "people.csv", row.names = FALSE)
people <- read.csv("people.csv")

row <- function(estimate, se = NA, lo = NA, hi = NA, null = NA, statistic = NA, df = NA, p = NA)
  list(estimate = estimate, se = se, lo = lo, hi = hi, null = null, statistic = statistic, df = df,
       p = p)
of_lm <- function(fit, term, null, level) {
  line <- summary(fit)$coefficients[term, ]
  ci <- confint(fit, level = level)[term, ]
  t <- (line[["Estimate"]] - null) / line[["Std. Error"]]
  row(line[["Estimate"]], line[["Std. Error"]], ci[[1]], ci[[2]], null, t, fit$df.residual,
      2 * pt(-abs(t), fit$df.residual))
}

agreement <- function(x, y, level) {  # x predicted, y reference
  n <- length(x); d <- x - y; m <- (x + y) / 2; z <- qnorm(0.975); q <- qnorm(0.5 + level / 2)
  bias <- t.test(x, y, paired = TRUE, conf.level = level)
  chi <- qchisq(c(0.5 + level / 2, 0.5 - level / 2), n - 1)
  # Bland and Altman 1999: Var(limit) = s^2 (1/n + 1.96^2 / (2 (n - 1)))
  limit <- function(sign) {
    at <- mean(d) + sign * z * sd(d); se <- sqrt(var(d) / n + z^2 * var(d) / (2 * (n - 1)))
    row(at, se, at - qt(0.5 + level / 2, n - 1) * se, at + qt(0.5 + level / 2, n - 1) * se,
        df = n - 1)
  }
  mae <- t.test(abs(d), conf.level = level)
  mse <- t.test(d^2, conf.level = level)
  pearson <- cor.test(x, y, conf.level = level)
  spearman <- suppressWarnings(cor.test(x, y, method = "spearman", exact = FALSE))
  rho <- spearman$estimate[[1]]
  # Bonett and Wright 2000
  bw <- tanh(atanh(rho) + c(-1, 1) * q * sqrt((1 + rho^2 / 2) / (n - 3)))
  # se of epi.ccc is not returned; from its limits on the z scale
  lin <- epi.ccc(x, y, ci = "z-transform", conf.level = level)
  plain <- epi.ccc(x, y, ci = "asymptotic", conf.level = level)$rho.c
  line <- lm(y ~ x)
  list(
    bias = row(bias$estimate[[1]], bias$stderr, bias$conf.int[1], bias$conf.int[2], 0,
               bias$statistic[[1]], bias$parameter[[1]], bias$p.value),
    sd_of_differences = row(sd(d), NA, sd(d) * sqrt((n - 1) / chi[1]), sd(d) * sqrt((n - 1) / chi[2]),
                            df = n - 1),
    lower_limit_of_agreement = limit(-1),
    upper_limit_of_agreement = limit(1),
    slope_of_difference_on_mean = of_lm(lm(d ~ m), "m", 0, level),
    slope_of_difference_if_calibrated = row({
      # the slope in a population with cov(x, y) = var(x) and this correlation
      r <- cor(x, y); vx <- r^2; (vx - 1) / ((vx + 1 + 2 * vx) / 2)
    }),
    mae = row(mae$estimate[[1]], mae$stderr, mae$conf.int[1], mae$conf.int[2], df = n - 1),
    rmse = row(sqrt(mean(d^2)), mse$stderr / (2 * sqrt(mean(d^2))), sqrt(max(mse$conf.int[1], 0)),
               sqrt(mse$conf.int[2]), df = n - 1),
    pearson = row(pearson$estimate[[1]], NA, pearson$conf.int[1], pearson$conf.int[2], 0,
                  pearson$statistic[[1]], pearson$parameter[[1]], pearson$p.value),
    spearman = row(rho, NA, bw[1], bw[2], 0, rho * sqrt((n - 2) / (1 - rho^2)), n - 2,
                   spearman$p.value),
    lin_concordance = row(lin$rho.c$est, (plain$upper - plain$lower) / (2 * q), lin$rho.c$lower,
                          lin$rho.c$upper),
    lin_accuracy = row(lin$C.b),
    calibration_intercept = of_lm(line, "(Intercept)", 0, level),
    calibration_slope = of_lm(line, "x", 1, level)
  )
}

# --- Deming: total least squares by SVD after scaling y; jackknife by leaving each row out -------
deming_line <- function(x, y, ratio) {
  v <- svd(cbind(x - mean(x), (y - mean(y)) / sqrt(ratio)))$v[, 1]
  slope <- v[2] / v[1] * sqrt(ratio)
  c(intercept = mean(y) - slope * mean(x), slope = slope)
}
deming <- function(x, y, ratio, level) {
  n <- length(x)
  whole <- deming_line(x, y, ratio)
  without <- t(sapply(seq_len(n), function(i) deming_line(x[-i], y[-i], ratio)))
  pseudo <- t(n * whole - (n - 1) * t(without))  # Linnet 1993
  se <- apply(pseudo, 2, sd) / sqrt(n)
  half <- qt(0.5 + level / 2, n - 2) * se
  null <- c(intercept = 0, slope = 1)
  t <- (whole - null) / se
  lapply(c(intercept = "intercept", slope = "slope"), function(k)
    row(whole[[k]], se[[k]], whole[[k]] - half[[k]], whole[[k]] + half[[k]], null[[k]], t[[k]], n - 2,
        2 * pt(-abs(t[[k]]), n - 2)))
}

# --- Passing and Bablok 1983, pair by pair -------------------------------------------------------
passing_bablok <- function(x, y, level) {
  n <- length(x)
  s <- c(); n_same <- 0; n_minus_one <- 0; n_infinite <- 0
  for (i in 1:(n - 1)) for (j in (i + 1):n) {
    if (x[i] == x[j] && y[i] == y[j]) { n_same <- n_same + 1; next }
    one <- if (x[i] == x[j]) Inf else (y[i] - y[j]) / (x[i] - x[j])
    if (one == -1) { n_minus_one <- n_minus_one + 1; next }
    if (is.infinite(one)) n_infinite <- n_infinite + 1
    s <- c(s, one)
  }
  s <- sort(s); N <- length(s); K <- sum(s < -1)
  b <- if (N %% 2 == 1) s[(N + 1) / 2 + K] else (s[N / 2 + K] + s[N / 2 + 1 + K]) / 2
  C <- qnorm(0.5 + level / 2) * sqrt(n * (n - 1) * (2 * n + 5) / 18)
  M1 <- round((N - C) / 2); M2 <- N - M1 + 1
  lo <- s[M1 + K]; hi <- s[M2 + K]
  list(intercept = row(median(y - b * x), lo = median(y - hi * x), hi = median(y - lo * x), null = 0),
       slope = row(b, lo = lo, hi = hi, null = 1),
       counts = list(slopes = N, shift = K, same = n_same, minus_one = n_minus_one,
                     infinite = n_infinite))
}

p <- people; f <- p[p$sex == "female", ]; m <- p[p$sex == "male", ]
expected <- list(
  versions = list(R = R.version.string, epiR = as.character(packageVersion("epiR")),
                  jsonlite = as.character(packageVersion("jsonlite"))),
  agreement = list(
    all = agreement(p$predicted, p$reference, 0.95),
    all_90 = agreement(p$predicted, p$reference, 0.9),
    female = agreement(f$predicted, f$reference, 0.95),
    male = agreement(m$predicted, m$reference, 0.95),
    methods = agreement(p$method_a, p$method_b, 0.95)
  ),
  deming = list(
    methods_1 = deming(p$method_a, p$method_b, 1, 0.95),
    methods_1.96 = deming(p$method_a, p$method_b, 1.96, 0.9),
    prediction_0.2 = deming(p$predicted, p$reference, 0.2, 0.95)
  ),
  passing_bablok = list(
    methods = passing_bablok(p$method_a, p$method_b, 0.95),
    methods_90 = passing_bablok(p$method_b, p$method_a, 0.9),
    prediction = passing_bablok(p$predicted, p$reference, 0.95),
    odd = passing_bablok(p$predicted[1:30], p$reference[1:30], 0.95)
  )
)
write_json(expected, "expected.json", auto_unbox = TRUE, digits = NA, pretty = TRUE, na = "null")
