# References for the Cox, Fine-Gray and concordance functions beyond those of ../survival.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(cmprsk); library(riskRegression); library(jsonlite)})
tight <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
read <- function(name) read.csv(file.path("..", "survival", "data", paste0(name, ".csv")))
out <- list()

of_fit <- function(fit) list(
  coef = unname(coef(fit)), se = unname(sqrt(diag(vcov(fit)))),
  se_model = unname(sqrt(diag(if (is.null(fit$naive.var)) fit$var else fit$naive.var))),
  loglik = fit$loglik, c = unname(concordance(fit)$concordance),
  c_se = unname(sqrt(concordance(fit)$var)))
of_zph <- function(fit, transform, terms = TRUE) {
  z <- cox.zph(fit, transform, terms = terms)$table
  list(term = rownames(z), chi2 = unname(z[, 1]), df = unname(z[, 2]), p = unname(z[, 3]))
}
of_curve <- function(fit, newdata, times, id = NULL) {
  s <- summary(survfit(fit, newdata = newdata, conf.type = "log-log"), times = times, extend = TRUE)
  list(survival = s$surv, se = s$std.err, lo = s$lower, hi = s$upper)
}

lung <- subset(read("lung"), !is.na(ph.ecog) & !is.na(inst))
lung$event <- lung$status == 2
rossi <- read("rossi")
rossi$w <- 1 + (seq_len(nrow(rossi)) %% 3) / 2
rossi$home <- seq_len(nrow(rossi)) %% 60
heart <- read("heart")
veteran <- read("veteran")

# Weights that are not whole: robust errors, and the weighted concordance.
weighted <- coxph(Surv(week, arrest) ~ fin + age + prio, rossi, weights = w, robust = TRUE,
                  control = tight)
out$rossi_weighted <- of_fit(weighted)
out$rossi_weighted_cluster <- of_fit(coxph(Surv(week, arrest) ~ fin + age + prio, rossi,
  weights = w, cluster = home, control = tight))
out$rossi_weighted_breslow <- of_fit(coxph(Surv(week, arrest) ~ fin + age + prio, rossi,
  weights = w, robust = TRUE, ties = "breslow", control = tight))

# Delayed entry with strata.
stratified <- coxph(Surv(start, stop, event) ~ age + year + transplant + strata(surgery), heart,
                    control = tight)
out$heart_strata <- c(of_fit(stratified), list(
  zph = of_zph(stratified, "km"), zph_rank = of_zph(stratified, "rank")))
new <- data.frame(age = c(-5, 5), year = c(1, 3), transplant = c(0, 1), surgery = c(0, 1))
curves <- lapply(1:2, function(i) {
  s <- survfit(stratified, newdata = new[i, ], conf.type = "log-log")
  s <- summary(s, times = c(50, 200, 600), extend = TRUE)
  list(survival = s$surv, se = s$std.err, lo = s$lower, hi = s$upper)
})
out$heart_strata$predicted <- list(new = new, times = c(50, 200, 600), curves = curves)
out$heart_clustered_curve <- of_curve(
  coxph(Surv(start, stop, event) ~ age + transplant, heart, cluster = id, control = tight),
  data.frame(age = 0, transplant = 1), c(50, 200, 600))

# Categories, terms together and level by level.
cells <- coxph(Surv(time, status) ~ trt + relevel(factor(celltype), ref = "squamous") + karno,
               veteran, control = tight)
out$veteran_terms <- of_zph(cells, "km")
out$veteran_levels <- of_zph(cells, "km", terms = FALSE)
out$veteran_coef <- unname(coef(cells))
out$veteran_wald <- {
  b <- coef(cells)[2:4]; v <- vcov(cells)[2:4, 2:4]; unname(drop(b %*% solve(v, b)))
}
smaller <- coxph(Surv(time, status) ~ trt + karno, veteran, control = tight)
test <- anova(smaller, cells)
out$veteran_lr <- list(chi2 = test$Chisq[2], df = test$Df[2], p = test[2, 4])

# Scaled Schoenfeld residuals, in the order of event times.
fit <- coxph(Surv(time, event) ~ age + sex + ph.ecog, lung, control = tight)
z <- cox.zph(fit, "km", terms = FALSE)
out$lung_schoenfeld <- list(time = z$time, x = z$x, y = unname(z$y))
out$lung_breslow_schoenfeld <- unname(cox.zph(coxph(Surv(time, event) ~ age + sex + ph.ecog, lung,
  ties = "breslow", control = tight), "identity", terms = FALSE)$y)
out$lung_lp <- unname(predict(fit, type = "lp"))[1:10]

# Periods of follow-up.
pieces <- survSplit(Surv(time, event) ~ ., lung, cut = c(100, 365), start = "entry",
                    episode = "period")
out$split <- list(rows = nrow(pieces), events = sum(pieces$event),
                  time = sum(pieces$time - pieces$entry), period = as.integer(table(pieces$period)),
                  fit = of_fit(coxph(Surv(entry, time, event) ~ sex:factor(period) + age, pieces,
                                     control = tight)))

# Heavy ties, competing events and censoring at the same times.
set.seed(20261123)
n <- 400
ties <- data.frame(x = rnorm(n), z = rbinom(n, 1, 0.4), home = sample(80, n, TRUE))
ties$time <- pmax(1, ceiling(8 * rexp(n) * exp(-0.4 * ties$x)))
ties$status <- sample(0:2, n, TRUE, c(0.35, 0.35, 0.3))
write.csv(ties, "ties.csv", row.names = FALSE)
ties <- read.csv("ties.csv")
ties$id <- seq_len(n)
expand <- finegray(Surv(time, factor(status, 0:2)) ~ ., ties, etype = "1")
fg <- function(f) {
  list(coef = unname(coef(f)), se = unname(sqrt(diag(vcov(f)))), loglik = f$loglik, fit = f)
}
by_id <- fg(coxph(Surv(fgstart, fgstop, fgstatus) ~ x + z, expand, weights = fgwt, cluster = id,
                  control = tight))
newties <- data.frame(x = c(-1, 0.5), z = c(0, 1))
s <- summary(survfit(by_id$fit, newdata = newties), times = c(2, 5, 20))
out$ties_finegray <- c(by_id[1:3], list(new = newties, times = c(2, 5, 20), cif = 1 - s$surv))
out$ties_finegray_cluster <- fg(coxph(Surv(fgstart, fgstop, fgstatus) ~ x + z, expand,
  weights = fgwt, cluster = home, control = tight))[1:3]
c1 <- crr(ties$time, ties$status, ties[, c("x", "z")], gtol = 1e-12)
out$ties_crr <- list(coef = unname(c1$coef), se = unname(sqrt(diag(c1$var))),
                     loglik = c(c1$loglik.null, c1$loglik))
mgus <- read("mgus2")
mgus$etime <- with(mgus, ifelse(pstat == 1, ptime, futime))
mgus$ev <- with(mgus, ifelse(pstat == 1, 1, 2 * death))
mgus$male <- as.numeric(mgus$sex == "M")
mgus <- subset(mgus, complete.cases(mgus[, c("age", "male", "mspike", "hgb")]))
c2 <- crr(mgus$etime, mgus$ev, mgus[, c("age", "male", "mspike", "hgb")], gtol = 1e-12)
out$mgus2_crr <- list(coef = unname(c2$coef), se = unname(sqrt(diag(c2$var))),
                      loglik = c(c2$loglik.null, c2$loglik))

# Absolute risk from cause-specific fits.
csc <- function(data, formula, new, times, ...) {
  f <- CSC(formula, data, control = tight, ...)
  risk <- function(cause) unname(predict(f, newdata = new, times = times, cause = cause,
                                         product.limit = TRUE)$absRisk)
  list(new = new, times = times, cause_1 = risk(1), cause_2 = risk(2))
}
out$mgus2_csc <- csc(mgus, Hist(etime, ev) ~ age + male + mspike + hgb,
  data.frame(age = c(50, 65, 80), male = c(0, 1, 1), mspike = c(1, 1.5, 0.5),
             hgb = c(14, 13, 11)), c(60, 120, 300))
out$ties_csc <- csc(ties, Hist(time, status) ~ x + z, newties, c(2, 5, 20))

out$versions <- list(R = R.version.string, survival = as.character(packageVersion("survival")),
  cmprsk = as.character(packageVersion("cmprsk")),
  riskRegression = as.character(packageVersion("riskRegression")))
write_json(out, "expected.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
