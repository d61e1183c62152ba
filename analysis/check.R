# Refits the main hazard ratios of a study in R, so that a statistician can check them.
# Rscript export/check.R (from anywhere). Needs the package survival. Reads restricted/ beside
# export/, writes nothing; exits with 1 on a difference.
suppressMessages(library(survival))
own_file <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
restricted <- file.path(dirname(dirname(normalizePath(own_file))), "restricted")
# An empty cell is missing, and "NA" may be the name of a level; categories stay text.
read <- function(name, texts = character()) {
  kinds <- if (length(texts)) setNames(rep("character", length(texts)), texts) else NA
  read.csv(file.path(restricted, name), stringsAsFactors = FALSE, na.strings = "",
           colClasses = kinds, encoding = "UTF-8", check.names = FALSE)
}
terms <- read("models.csv", c("term", "kind", "reference"))
categories <- unique(terms$term[terms$kind == "category"])
people <- read("analysis_data.csv", c("outcome", "model_id", categories))
ours <- read("hazard_ratios.csv", c("outcome", "contrast", "model_id", "se_type"))
for (name in categories) {
  reference <- terms$reference[terms$term == name][1]
  people[[name]] <- relevel(factor(people[[name]]), ref = reference)
}
people$quartile_factor <- factor(people$quartile)
attained <- "entry_age_days" %in% names(people)

# The column of a contrast, and the term of the fit that belongs to it.
column_of <- function(contrast) {
  if (grepl("^quartile", contrast)) return("quartile_factor")
  if (grepl("^trend", contrast)) return("quartile_median")
  c("per SD" = "exposure", "per 10" = "exposure", "yes against no" = "exposure", "LVH" = "lvh",
    "per SD of the own sex" = "exposure_in_sd_of_sex")[[contrast]]
}

refit <- function(row) {
  own <- people[people$outcome == row$outcome, ]
  if (!is.na(row$model_id)) own <- own[own$model_id == row$model_id, ]
  column <- column_of(row$contrast)
  times <- if (attained) c("entry_age_days", "exit_age_days") else "time_days"
  needed <- c(if (column == "quartile_median") "quartile" else column, times, terms$term)
  own <- own[complete.cases(own[, unique(needed)]), ]
  if (column == "quartile_median")
    own$quartile_median <- ave(own$exposure, own$quartile, FUN = median)
  covariates <- terms$term[terms$model == row$model]
  # In people of one sex there is nothing to adjust for.
  covariates <- covariates[covariates != "sex" | length(unique(own$sex)) > 1]
  left <- if (attained) "Surv(entry_age_days, exit_age_days, status == 1)"
          else "Surv(time_days, status == 1)"
  control <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 60)
  # Named by value: coxph looks its arguments up where the formula was made.
  call <- list(reformulate(c(column, sprintf("`%s`", covariates)), left), data = own,
               ties = "efron", control = control)
  # By person, or by household in which people are nested.
  if (row$se_type != "model") call$cluster <- own$error_cluster
  fit <- do.call(coxph, call)
  if (column == "quartile_factor") {  # people and events are those of the quartile
    quartile <- sub("^quartile (.) .*", "\\1", row$contrast)
    own <- own[own$quartile == as.numeric(quartile), ]
    counts <- c(n = nrow(own), events = length(unique(own$person[own$status == 1])))
    if (quartile == "1") return(c(log_hr = 0, se = NA, counts))
    term <- paste0(column, quartile)
    return(c(log_hr = coef(fit)[[term]], se = sqrt(vcov(fit)[term, term]), counts))
  }
  term <- column
  c(log_hr = coef(fit)[[term]] * row$unit_value,
    se = sqrt(vcov(fit)[term, term]) * row$unit_value, n = fit$n,
    events = length(unique(own$person[own$status == 1])))
}

known <- ours[!is.na(ours$estimate), ]
r <- t(vapply(seq_len(nrow(known)), function(i) refit(known[i, ]), numeric(4)))
off <- pmax(abs(r[, "log_hr"] - log(known$estimate)) / known$se,
            abs(r[, "se"] / known$se - 1))
off[is.na(known$se)] <- abs(log(known$estimate[is.na(known$se)]))  # the reference is 1
same_counts <- r[, "n"] == known$n_ecgs & r[, "events"] == known$n_events
print(data.frame(known[, c("outcome", "contrast", "model")], ours = signif(known$estimate, 6),
                 R = signif(exp(r[, "log_hr"]), 6), off = signif(off, 2), counts = same_counts),
      row.names = FALSE)
cat(sprintf("\n%d hazard ratios, %d without an estimate left out; largest difference %.1e\n",
            nrow(known), nrow(ours) - nrow(known), max(off)))
quit(status = if (max(off) < 1e-6 && all(same_counts)) 0 else 1)
