# Regression calibration by lm and coxph, with a bootstrap of both steps by person.
# Run in this folder: Rscript make.R
suppressMessages({library(survival); library(jsonlite)})
set.seed(1989)
n <- 900
people <- data.frame(age = round(rnorm(n, 60, 8), 1), male = rbinom(n, 1, 0.5))
index <- 45 + 8 * people$male + 0.1 * (people$age - 60) + rnorm(n, 0, 8)
people$predicted <- round(47 + 6 * people$male + 0.5 * (index - 49) + rnorm(n, 0, 4), 2)
people$measured <- ifelse(seq_len(n) <= 300, round(index + rnorm(n, 0, 3), 2), NA)
hazard <- 0.02 * exp(0.05 * (index - 49) + 0.04 * (people$age - 60))
event_time <- rexp(n, hazard)
people$time <- pmax(1, ceiling(365 * pmin(event_time, 12)))
people$event <- as.integer(event_time <= 12)
write.csv(people, "people.csv", row.names = FALSE)
people <- read.csv("people.csv")

both <- function(d) {
  d$expected <- predict(lm(measured ~ predicted + age + male, d), d)
  coef(coxph(Surv(time, event) ~ expected + age + male, d))[["expected"]]
}
step <- lm(measured ~ predicted + age + male, people)
naive <- coxph(Surv(time, event) ~ predicted + age + male, people)
known <- which(!is.na(people$measured)); other <- which(is.na(people$measured))
drawn <- replicate(2000, both(people[c(sample(known, replace = TRUE),
                                       sample(other, replace = TRUE)), ]))
write_json(list(
  calibrated = both(people), naive = coef(naive)[["predicted"]],
  naive_se = sqrt(vcov(naive)[1, 1]),
  step = unname(coef(step)), step_se = unname(sqrt(diag(vcov(step)))),
  r2 = summary(step)$r.squared,
  bootstrap = list(samples = 2000, se = sd(drawn), limits = unname(quantile(drawn, c(.025, .975)))),
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival")))
), "expected.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
