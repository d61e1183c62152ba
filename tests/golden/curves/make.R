# Reference figures for survival curves, cumulative incidence, log-rank and Gray's tests.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(cmprsk); library(jsonlite)})

set.seed(20240611)
n <- 150
group <- sample(c("a", "b", "c"), n, TRUE, prob = c(.5, .3, .2))
entry <- sample(0:12, n, TRUE)
exit <- entry + ceiling(rexp(n, ifelse(group == "b", .12, .08)))
exit <- ifelse(group == "c", pmin(exit, entry + 9), exit)
people <- data.frame(
  id = seq_len(n), entry, exit, length = exit - entry, group,
  status = sample(0:2, n, TRUE, prob = c(.35, .35, .3)),
  stratum = sample(c("x", "y"), n, TRUE), whole = sample(1:4, n, TRUE),
  weight = round(runif(n, .2, 3), 3), untied = round(rexp(n, .1), 6)
)
stopifnot(!anyDuplicated(people$untied))
write.csv(people, "people.csv", row.names = FALSE, quote = FALSE)
people$event <- as.integer(people$status > 0)
people$state <- factor(people$status, 0:2)

km <- function(fit) with(fit, list(
  time = time, n_at_risk = n.risk, n_events = n.event, n_censored = n.censor, survival = surv,
  se = if (isTRUE(logse)) surv * std.err else std.err, lo = lower, hi = upper))
at <- function(fit, times) {
  s <- summary(fit, times = times, extend = TRUE)
  list(time = s$time, n_at_risk = s$n.risk, n_events = s$n.event, n_censored = s$n.censor,
       survival = s$surv, se = s$std.err, lo = s$lower, hi = s$upper)
}
quantiles <- function(fit, probs) {
  q <- quantile(fit, probs)
  list(probs = probs, quantile = as.vector(q$quantile), lo = as.vector(q$lower), hi = as.vector(q$upper))
}
rmean <- function(fit, tau) as.list(survival:::survmean(fit, rmean = tau)$matrix[c("rmean", "se(rmean)")])
aj <- function(fit) with(fit, list(
  time = time, probability = pstate, se = std.err, lo = lower, hi = upper))

kinds <- c("log-log", "log", "plain")
each <- function(make) setNames(lapply(kinds, make), kinds)
out <- list()
out$km_entry <- each(function(k) km(survfit(Surv(entry, exit, event) ~ 1, people, conf.type = k)))
out$km_length <- each(function(k) km(survfit(Surv(length, event) ~ 1, people, conf.type = k)))
out$km_whole <- each(function(k) km(survfit(Surv(length, event) ~ 1, people, weights = whole, conf.type = k)))
out$km_weight <- each(function(k) km(survfit(Surv(length, event) ~ 1, people, weights = weight, conf.type = k)))
out$km_weight_entry <- each(function(k) km(survfit(Surv(entry, exit, event) ~ 1, people, weights = weight, conf.type = k)))
readings <- c(0, .5, 3.5, 7, 11.25, 30, 500)
out$at_entry <- at(survfit(Surv(entry, exit, event) ~ 1, people, conf.type = "log-log"), readings)
out$at_whole <- at(survfit(Surv(length, event) ~ 1, people, weights = whole, conf.type = "log-log"), readings)
out$rmean <- list(
  length = rmean(survfit(Surv(length, event) ~ 1, people), 9.5),
  whole = rmean(survfit(Surv(length, event) ~ 1, people, weights = whole), 12),
  entry = rmean(survfit(Surv(entry, exit, event) ~ 1, people), 14.25))
flat <- list(
  rests_to_last = data.frame(time = 1:4, event = c(1, 1, 0, 0)),
  rests_between = data.frame(time = 1:8, event = c(0, 1, 1, 0, 1, 1, 0, 0)),
  ends_at_zero = data.frame(time = c(1, 2, 2, 3, 4, 4, 5, 6, 7, 7), event = c(0, 1, 1, 0, 1, 0, 1, 0, 1, 1)),
  ten = data.frame(time = c(2, 3, 5, 5, 8, 9, 11, 12, 14, 20), event = rep(1, 10)))
probs <- c(.1, .2, .25, .3, .4, .5, .6, .75, .9, 1 / 7, 9 / 14)
out$quantiles <- lapply(flat, function(d) c(d, list(q = each(function(k)
  quantiles(survfit(Surv(time, event) ~ 1, d, conf.type = k), probs)))))
out$follow_up <- quantiles(survfit(Surv(length, 1 - event) ~ 1, people, conf.type = "log-log"), c(.25, .5, .75))

test <- function(d) list(chi2 = d$chisq, df = length(d$n) - 1, p = 1 - pchisq(d$chisq, length(d$n) - 1),
  observed = if (is.matrix(d$obs)) rowSums(d$obs) else d$obs,
  expected = if (is.matrix(d$exp)) rowSums(d$exp) else d$exp)
out$logrank <- test(survdiff(Surv(length, event) ~ group, people))
out$logrank_strata <- test(survdiff(Surv(length, event) ~ group + strata(stratum), people))
# survdiff has no delayed entry: the sums of Mantel's test, written out time by time.
by_hand <- function(d) {
  g <- sort(unique(d$group)); o <- e <- numeric(length(g)); v <- matrix(0, length(g), length(g))
  for (t in sort(unique(d$exit[d$event == 1]))) {
    r <- d$entry < t & d$exit >= t; k <- r & d$exit == t & d$event == 1
    m <- sum(r); x <- sum(k); share <- sapply(g, function(i) sum(r & d$group == i)) / m
    o <- o + sapply(g, function(i) sum(k & d$group == i)); e <- e + x * share
    if (m > 1) v <- v + x * (m - x) / (m - 1) * (diag(share) - outer(share, share))
  }
  i <- seq_len(length(g) - 1)
  list(chi2 = drop((o - e)[i] %*% solve(v[i, i], (o - e)[i])), observed = o, expected = e)
}
out$logrank_entry <- by_hand(people)
out$logrank_by_hand_check <- by_hand(transform(people, entry = 0, exit = length))$chi2

out$aj_length <- each(function(k) aj(survfit(Surv(length, state) ~ 1, people, conf.type = k)))
out$aj_entry <- each(function(k) aj(survfit(Surv(entry, exit, state) ~ 1, people, id = id, conf.type = k)))
out$aj_weight <- each(function(k) aj(survfit(Surv(length, state) ~ 1, people, weights = weight, conf.type = k)))
out$aj_weight_entry <- each(function(k) aj(survfit(Surv(entry, exit, state) ~ 1, people, id = id, weights = weight, conf.type = k)))
s <- summary(survfit(Surv(entry, exit, state) ~ 1, people, id = id, conf.type = "log-log"), times = readings, extend = TRUE)
out$aj_at <- list(time = s$time, n_at_risk = s$n.risk[, 1], n_events = s$n.event, probability = s$pstate,
                  se = s$std.err, lo = s$lower, hi = s$upper)

gray <- function(time, group) { x <- cuminc(time, people$status, group)$Tests
  list(chi2 = unname(x[, "stat"]), df = unname(x[, "df"]), p = unname(x[, "pv"])) }
out$gray <- list(tied = gray(people$length, people$group), untied = gray(people$untied, people$group),
                 two = gray(people$length, people$stratum), coarse = gray(ceiling(people$length / 4), people$group))
out$versions <- list(R = R.version.string, survival = as.character(packageVersion("survival")),
                     cmprsk = as.character(packageVersion("cmprsk")))
write_json(out, "expected.json", digits = NA, na = "null", auto_unbox = TRUE)
