# Reference figures for the judgement of predicted risks. Run in this folder: Rscript make.R
suppressMessages({library(survival); library(prodlim); library(riskRegression); library(jsonlite)})

# Data: mgus2 of survival (as in ../survival/data), complete rows, with risks of progression (event 1, death before it
# 2) and of death predicted by models that were fitted on every second row, so that they do not fit the rest.
m <- read.csv("../survival/data/mgus2.csv")
m$months <- with(m, ifelse(pstat == 1, ptime, futime))
m$status <- with(m, ifelse(pstat == 1, 1, 2 * death))
m$male <- as.integer(m$sex == "M")
m <- m[complete.cases(m[, c("age", "hgb", "mspike", "creat")]), ]
fitted_on <- m[seq(1, nrow(m), 2), ]
a <- CSC(Hist(months, status) ~ age + male + mspike + hgb, fitted_on)
b <- CSC(Hist(months, status) ~ age + hgb, fitted_on)
d <- coxph(Surv(futime, death) ~ age + male + hgb, fitted_on, x = TRUE)
e <- coxph(Surv(futime, death) ~ age, fitted_on, x = TRUE)
risk <- function(fit, ...) signif(as.vector(predictRisk(fit, newdata = m, times = 120, ...)), 8)
people <- data.frame(
  months = m$months, status = m$status, futime = m$futime, death = m$death,
  full = risk(a, cause = 1), short = risk(b, cause = 1), rounded = pmax(round(risk(a, cause = 1), 2), .01),
  death_full = risk(d), death_age = risk(e)
)
people$untied <- people$months + (seq_len(nrow(people)) * 7919 %% nrow(people)) %% 997 / 1000 / 1.5
people$untied <- round(people$untied + seq_len(nrow(people)) * 1e-6, 6)
stopifnot(!anyDuplicated(people$untied))
people$years2 <- ceiling(people$months / 24)  # heavy ties
write.csv(people, "people.csv", row.names = FALSE, quote = FALSE)
out <- list()

# Brier score and AUC.
score <- function(risks, formula, at, cause = 1) {
  s <- suppressMessages(Score(as.list(as.data.frame(people)[risks]), formula = formula, data = data.frame(people), times = at, cause = cause,
    metrics = c("auc", "brier"), summary = "ipa", cens.model = "km", conservative = FALSE, se.fit = TRUE,
    null.model = TRUE, contrasts = TRUE))
  table <- function(x) { x <- as.data.frame(x); x[] <- lapply(x, function(v) if (is.factor(v)) as.character(v) else v); x }
  list(at = at, auc = table(s$AUC$score), auc_difference = table(s$AUC$contrasts),
       brier = table(s$Brier$score), brier_difference = table(s$Brier$contrasts))
}
three <- c("full", "short", "rounded")
out$score <- list(
  months = score(three, Hist(months, status) ~ 1, 120),
  untied = score(three, Hist(untied, status) ~ 1, 120),
  years2 = score(three, Hist(years2, status) ~ 1, 5),
  death = score(c("death_full", "death_age"), Surv(futime, death) ~ 1, 120))

# Errors under ties: the statistics with case weights written out from their definition, and their derivative in the
# weight of each person by central differences (error of about 1e-8); standard error sd(derivative) / sqrt(n).
weighted <- function(w, time, status, at, x, y) {
  cens <- sort(unique(time[status == 0 & time <= at]))
  left <- sapply(cens, function(u) { r <- time > u | (time == u & status == 0)
    1 - sum(w[r & time == u]) / sum(w[r]) })
  before <- findInterval(time, cens, left.open = TRUE)  # how many of them are earlier than the exit
  g <- c(1, cumprod(left))[before + 1]; case <- time <= at & status == 1; known <- time > at | status != 0
  v <- ifelse(known, w / g, 0); n <- sum(w); f <- sum(v[case]) / n
  brier <- function(p) sum(v * (case - p)^2) / n
  area <- function(p) { i <- which(case); k <- which(known & !case)
    sum(outer(v[i], v[k]) * (outer(p[i], p[k], ">") + outer(p[i], p[k], "==") / 2)) / (sum(v[i]) * sum(v[k])) }
  b0 <- brier(f)
  c(null = b0, brier_x = brier(x), brier_y = brier(y), brier_difference = brier(x) - brier(y),
    scaled_x = 1 - brier(x) / b0, scaled_y = 1 - brier(y) / b0, auc_x = area(x), auc_y = area(y),
    auc_difference = area(x) - area(y))
}
third <- people[seq(1, nrow(people), 3), ]
derivative_errors <- function(...) {
  n <- nrow(third); h <- 1e-3
  d <- sapply(seq_len(n), function(i) { w <- rep(1, n); up <- w; up[i] <- 1 + h; w[i] <- 1 - h
    n * (weighted(up, ...) - weighted(w, ...)) / (2 * h) })
  as.list(apply(d, 1, sd) / sqrt(n))
}
out$derivative_errors <- with(third, list(
  years2 = derivative_errors(years2, status, 5, full, rounded),
  death = derivative_errors(ceiling(futime / 24), death, 5, death_full, death_age)))

# Pseudo-values.
pseudo <- function(formula, at, cause) as.vector(jackknife(prodlim(formula, people), times = at, cause = cause))
single <- function(formula, at) 1 - as.vector(jackknife(prodlim(formula, people), times = at))
values <- list(
  months = pseudo(Hist(months, status) ~ 1, 120, 1), months_cause2 = pseudo(Hist(months, status) ~ 1, 120, 2),
  years2 = pseudo(Hist(years2, status) ~ 1, 5, 1), death = single(Hist(futime, death) ~ 1, 120))
out$pseudo <- lapply(values, function(v) v[seq(1, length(v), 5)])  # of each fifth row, to keep the file small

# Observed over expected, and by tenths.
people$state <- factor(people$status, 0:2)
z <- qnorm(.975)
observed <- function(rows, at) {
  s <- summary(survfit(Surv(months, state) ~ 1, people[rows, ], conf.type = "log-log"), times = at, extend = TRUE)
  c(observed = s$pstate[2], se = s$std.err[2], lo = s$lower[2], hi = s$upper[2])
}
everybody <- observed(rep(TRUE, nrow(people)), 120)
ratio <- everybody[["observed"]] / mean(people$full)
out$observed_expected <- c(as.list(everybody), list(expected = mean(people$full), ratio = ratio,
  ratio_lo = ratio * exp(-z * everybody[["se"]] / everybody[["observed"]]),
  ratio_hi = ratio * exp(z * everybody[["se"]] / everybody[["observed"]])))
tenths <- function(x) {
  g <- cut(x, unique(quantile(x, 0:10 / 10)), include.lowest = TRUE)
  rows <- lapply(levels(g), function(l) { k <- g == l
    c(as.list(observed(k, 120)), n = sum(k), n_events = sum(k & people$months <= 120 & people$status == 1),
      expected = mean(x[k]), risk_min = min(x[k]), risk_max = max(x[k])) })
  do.call(rbind, lapply(rows, as.data.frame))
}
out$groups <- list(full = tenths(people$full), rounded = tenths(people$rounded))

# Smooth calibration: a spline by hand (Harrell's formula), least squares, sandwich.
spline_of <- function(x, k) {
  p <- function(v) pmax(v, 0)^3; n <- length(k)
  sapply(seq_len(n - 2), function(j) (p(x - k[j]) - p(x - k[n - 1]) * (k[n] - k[j]) / (k[n] - k[n - 1]) +
    p(x - k[n]) * (k[n - 1] - k[j]) / (k[n] - k[n - 1])) / (k[n] - k[1])^2)
}
cloglog <- function(p) log(-log(1 - p))
smooth <- function(risk, values) {
  x <- cloglog(risk); k <- quantile(x, seq(.05, .95, length.out = 4)); basis <- cbind(1, x, spline_of(x, k))
  fit <- lm.fit(basis, values); o <- pmin(pmax(fit$fitted.values, 0), 1); away <- abs(o - risk)
  grid <- seq(quantile(risk, .01), quantile(risk, .99), length.out = 5)
  points <- cbind(1, cloglog(grid), spline_of(cloglog(grid), k)); inverse <- solve(crossprod(basis))
  v <- inverse %*% crossprod(basis * fit$residuals) %*% inverse
  list(ici = mean(away), e50 = quantile(away, .5), e90 = quantile(away, .9), emax = max(away), grid = grid,
       observed = as.vector(points %*% fit$coefficients), se = sqrt(diag(points %*% v %*% t(points))),
       n_outside = sum(fit$fitted.values < 0 | fit$fitted.values > 1))
}
out$smooth <- list(full = smooth(people$full, values$months), short = smooth(people$short, values$months),
                   death_full = smooth(people$death_full, values$death))

# E-values of VanderWeele and Ding 2017, written out from the paper.
ev <- function(rr) { rr <- if (rr < 1) 1 / rr else rr; rr + sqrt(rr * (rr - 1)) }
common <- function(hr) (1 - .5^sqrt(hr)) / (1 - .5^sqrt(1 / hr))
out$e_value <- list(hr = c(1.5, .56, 2.75), rare = sapply(c(1.5, .56, 2.75), ev),
                    common_rr = sapply(c(1.5, .56, 2.75), common),
                    common = sapply(c(1.5, .56, 2.75), function(h) ev(common(h))))

# Category NRI of Pencina 2011 with Aalen-Johansen, and its error from pseudo-values within up, down and all.
nri <- function(new, old, cuts, at) {
  up <- findInterval(new, cuts) > findInterval(old, cuts); down <- findInterval(new, cuts) < findInterval(old, cuts)
  f <- function(k) unname(observed(k, at)["observed"]); n <- nrow(people); all <- f(rep(TRUE, n))
  pv <- function(k) { r <- numeric(n); r[k] <- jackknife(prodlim(Hist(months, status) ~ 1, people[k, ]), times = at, cause = 1); r }
  u <- pv(up); w <- pv(down); p <- pv(rep(TRUE, n))
  e <- (f(up) * sum(up) - f(down) * sum(down)) / (n * all)
  o <- ((1 - f(down)) * sum(down) - (1 - f(up)) * sum(up)) / (n * (1 - all))
  ie <- (u - w - e * p) / all; io <- ((down - w) - (up - u) - o * (1 - p)) / (1 - all)
  list(n_up = sum(up), n_down = sum(down), events = e, non_events = o, nri = e + o,
       se_events = sd(ie) / sqrt(n), se_non_events = sd(io) / sqrt(n), se = sd(ie + io) / sqrt(n))
}
out$nri <- nri(people$full, people$short, c(.05, .1), 120)
out$versions <- lapply(setNames(nm = c("survival", "prodlim", "riskRegression", "jsonlite")),
                       function(p) as.character(packageVersion(p)))
out$versions$R <- R.version.string
write_json(out, "expected.json", digits = NA, na = "null", auto_unbox = TRUE)
