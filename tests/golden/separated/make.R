# What a level without events does to the other terms, tests and concordance, by R in the limit:
# coefficients that grow without end are stopped where nothing changes any more.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(cmprsk)})
tight <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
quiet <- suppressWarnings
numbers <- function(x) paste0("[", paste(sprintf("%.15g", x), collapse = ", "), "]")
out <- c()
say <- function(name, x) out <<- c(out, sprintf('  "%s": %s', name, numbers(x)))

set.seed(20261130)
n <- 500
people <- data.frame(id = seq_len(n), x = rnorm(n), male = rbinom(n, 1, 0.5), home = sample(120, n, TRUE),
                     level = sample(c("a", "b", "none"), n, TRUE, c(0.5, 0.3, 0.2)))
rate <- 0.05 * exp(0.5 * people$x + 0.6 * people$male + 0.3 * (people$level == "b"))
event <- ceiling(30 * rexp(n) / (30 * rate)); death <- ceiling(rexp(n) / 0.03)
people$time <- pmax(1, pmin(event, death, 20))
people$status <- ifelse(event <= pmin(death, 20), 1, ifelse(death <= 20, 2, 0))
people$status[people$level == "none" & people$status == 1] <- 0   # nobody of this level has the event
write.csv(people, "people.csv", row.names = FALSE)
people <- read.csv("people.csv")
people$level <- factor(people$level, levels = c("a", "b", "none"))

small <- coxph(Surv(time, status == 1) ~ x + male, people, control = tight)
large <- quiet(coxph(Surv(time, status == 1) ~ x + male + level, people, control = tight))
more <- quiet(coxph(Surv(time, status == 1) ~ male + level, people, control = tight))
say("loglik", large$loglik)
say("coef", coef(large)[c("x", "male", "levelb")])
say("se", sqrt(diag(vcov(large)))[c("x", "male", "levelb")])
say("lr_level", 2 * (large$loglik[2] - small$loglik[2]))
say("lr_level_df", anova(small, large)$Df[2])
say("lr_x", 2 * (large$loglik[2] - more$loglik[2]))
both <- concordance(large, small)
say("c", both$concordance)
say("c_se", sqrt(diag(both$var)))
say("delta_se", sqrt(c(1, -1) %*% both$var %*% c(1, -1)))
say("uno", concordance(large, timewt = "n/G2", ymax = 15)$concordance)
say("counts", concordance(large)$count[1:3])
robust <- quiet(coxph(Surv(time, status == 1) ~ x + male + level, people, cluster = home, control = tight))
say("cluster_se", sqrt(diag(vcov(robust)))[c("x", "male", "levelb")])
say("cluster_c_se", sqrt(concordance(robust)$var))

expanded <- finegray(Surv(time, factor(status, 0:2)) ~ ., people, etype = "1")
fg <- quiet(coxph(Surv(fgstart, fgstop, fgstatus) ~ x + male + level, expanded, weights = fgwt, cluster = id,
                  control = tight))
say("finegray_coef", coef(fg)[c("x", "male", "levelb")])
say("finegray_se", sqrt(diag(vcov(fg)))[c("x", "male", "levelb")])
say("finegray_loglik", fg$loglik)
cov <- model.matrix(~ x + male + level, people)[, -1]
other <- quiet(crr(people$time, people$status, cov, gtol = 1e-12, maxiter = 30))
say("crr_coef", other$coef[1:3])
say("crr_se", sqrt(diag(other$var))[1:3])
writeLines(c("{", paste(out, collapse = ",\n"), "}"), "expected.json")
