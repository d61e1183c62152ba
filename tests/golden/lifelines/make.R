# What R gives where lifelines is compared and ../survival has no figure.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(jsonlite)})
tight <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
heart <- read.csv("../survival/data/heart.csv")
fit <- coxph(Surv(start, stop, event) ~ age + year + surgery + transplant, heart, control = tight)
h <- basehaz(fit, centered = TRUE)
rossi <- read.csv("../survival/data/rossi.csv")
r <- coxph(Surv(week, arrest) ~ fin + age + prio, rossi, ties = "breslow", control = tight)
s <- summary(survfit(r, newdata = data.frame(fin = 0, age = 25, prio = 2)), times = c(20, 20.5, 21))
write_json(list(
  heart_hazard = list(time = 100, value = h$hazard[findInterval(100, h$time)]),
  rossi_survival = list(times = c(20, 20.5, 21), values = s$surv),
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival")))
), "expected.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
