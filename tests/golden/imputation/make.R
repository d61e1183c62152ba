# Multiple imputation by mice, for a Cox model with a missing number and a missing yes/no.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(mice)})
set.seed(20261130)
n <- 600
d <- data.frame(x = rnorm(n), age = rnorm(n, 60, 8))
d$sbp <- 100 + 0.6 * d$age + 3 * d$x + rnorm(n, 0, 12)
d$diabetes <- rbinom(n, 1, plogis(-2.5 + 0.03 * (d$age - 60) + 0.02 * (d$sbp - 136) + 0.4 * d$x))
time <- rexp(n) / (0.04 * exp(0.4 * d$x + 0.03 * (d$age - 60) + 0.02 * (d$sbp - 136) + 0.5 * d$diabetes))
d$time <- pmax(0.01, round(pmin(time, 10), 3)); d$event <- as.integer(time <= 10)
# Missing at random: more often in the old, and in people with the event.
gone <- plogis(-1.4 + 0.05 * (d$age - 60) + 0.6 * d$event)
d$sbp[runif(n) < gone] <- NA
d$diabetes[runif(n) < 0.2] <- NA
write.csv(d, "people.csv", row.names = FALSE, na = "")
d <- read.csv("people.csv")
d$hazard <- nelsonaalen(d, time, event)
hazard <- d$hazard
d$diabetes <- factor(d$diabetes)
predict <- make.predictorMatrix(d); predict[, "time"] <- 0; predict["time", ] <- 0
made <- mice(d, m = 200, maxit = 10, method = c(sbp = "pmm", diabetes = "logreg")[names(d)] |> (\(v) {v[is.na(v)] <- ""; v})(),
             predictorMatrix = predict, printFlag = FALSE, seed = 1)
fit <- with(made, coxph(Surv(time, event) ~ x + age + sbp + diabetes))
s <- summary(pool(fit))
cc <- coxph(Surv(time, event) ~ x + age + sbp + diabetes, d)
line <- function(name, v) sprintf('  "%s": [%s]', name, paste(sprintf("%.10g", v), collapse = ", "))
writeLines(c("{", paste(c(line("coef", s$estimate), line("se", s$std.error), line("fmi", pool(fit)$pooled$fmi),
  line("complete_coef", coef(cc)), line("complete_se", sqrt(diag(vcov(cc)))), line("hazard", hazard[1:10])),
  collapse = ",\n"), "}"), "expected.json")
