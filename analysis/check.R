# Refits the hazard ratios of a study in R, so that a statistician can check them.
# Run in the output folder of lvm-ai analyse: Rscript check.R
# Needs the package survival. Reads restricted/, writes nothing; exits with 1 on a difference.
suppressMessages(library(survival))
people <- read.csv(file.path("restricted", "analysis_data.csv"))
ours <- read.csv(file.path("restricted", "hazard_ratios.csv"))
people$sex <- relevel(factor(people$sex), ref = "female")
covariates <- list(character(0), c("age_years", "sex"),
                   c("age_years", "sex", "height_cm", "weight_kg"))
all_covariates <- covariates[[3]]

refit <- function(row) {
  own <- people[people$outcome == row$outcome, ]
  own <- own[complete.cases(own[, c(row$exposure, all_covariates)]), ]
  terms <- c(row$exposure, covariates[[row$model]])
  formula <- reformulate(terms, "Surv(time_days, status == 1)")
  control <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
  # Named by value: coxph looks its arguments up where the formula was made.
  call <- list(formula, data = own, ties = "efron", control = control)
  if (row$se_type == "by person") call$cluster <- own$person
  fit <- do.call(coxph, call)
  c(log_hr = unname(coef(fit)[1]) * row$unit_value,
    se = sqrt(vcov(fit)[1, 1]) * row$unit_value, n = fit$n, events = fit$nevent)
}

known <- ours[!is.na(ours$estimate), ]
r <- t(vapply(seq_len(nrow(known)), function(i) refit(known[i, ]), numeric(4)))
off <- pmax(abs(r[, "log_hr"] - log(known$estimate)) / known$se,
            abs(r[, "se"] / known$se - 1))
same_counts <- r[, "n"] == known$n_ecgs & r[, "events"] == known$n_events
print(data.frame(known[, c("outcome", "contrast", "model")], ours = signif(known$estimate, 6),
                 R = signif(exp(r[, "log_hr"]), 6), off = signif(off, 2), counts = same_counts),
      row.names = FALSE)
cat(sprintf("\n%d hazard ratios, %d without an estimate left out; largest difference %.1e\n",
            nrow(known), nrow(ours) - nrow(known), max(off)))
quit(status = if (max(off) < 1e-6 && all(same_counts)) 0 else 1)
