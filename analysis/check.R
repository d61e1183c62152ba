# Refits the main hazard ratios of a study in R, so that a statistician can check them.
# Rscript export/check.R (from anywhere). Needs the package survival. Reads restricted/ beside
# export/, writes nothing; exits with 1 on a difference.
suppressMessages(library(survival))
own_file <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
restricted <- file.path(dirname(dirname(normalizePath(own_file))), "restricted")
read <- function(name) read.csv(file.path(restricted, name), stringsAsFactors = FALSE)
people <- read("analysis_data.csv")
ours <- read("hazard_ratios.csv")
terms <- read("models.csv")
for (name in unique(terms$term[terms$kind == "category"])) {
  reference <- terms$reference[terms$term == name][1]
  people[[name]] <- relevel(factor(people[[name]]), ref = reference)
}
people$quartile_factor <- factor(people$quartile)
attained <- "entry_age_days" %in% names(people)

# The column of a contrast, and the term of the fit that belongs to it.
column_of <- function(contrast) {
  if (grepl("^quartile", contrast)) return("quartile_factor")
  if (grepl("^trend", contrast)) return("quartile_median")
  c("per SD" = "exposure", "per 10" = "exposure", "LVH" = "lvh",
    "per SD of the own sex" = "exposure_in_sd_of_sex")[[contrast]]
}

refit <- function(row) {
  own <- people[people$outcome == row$outcome, ]
  if (!is.na(row$level) && row$level != "") own <- own[own$model_id == row$level, ]
  column <- column_of(row$contrast)
  needed <- c(if (column == "quartile_median") "quartile" else column, terms$term)
  own <- own[complete.cases(own[, unique(needed)]), ]
  if (column == "quartile_median")
    own$quartile_median <- ave(own$exposure, own$quartile, FUN = median)
  covariates <- terms$term[terms$model == row$model]
  left <- if (attained) "Surv(entry_age_days, exit_age_days, status == 1)"
          else "Surv(time_days, status == 1)"
  control <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
  # Named by value: coxph looks its arguments up where the formula was made.
  call <- list(reformulate(c(column, covariates), left), data = own, ties = "efron",
               control = control)
  if (row$se_type == "by person") call$cluster <- own$person
  fit <- do.call(coxph, call)
  term <- if (column == "quartile_factor")
    paste0(column, sub("^quartile (.) .*", "\\1", row$contrast)) else column
  c(log_hr = coef(fit)[[term]] * row$unit_value,
    se = sqrt(vcov(fit)[term, term]) * row$unit_value, n = fit$n, events = fit$nevent)
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
