# Reference figures of analysis/statistics/agreement/measurement_error.py. Run from tests/golden/repeatability: Rscript make.R
suppressMessages(library(jsonlite))

# Shrout and Fleiss 1979, table 2: six targets, four judges; their ICC(1,1) is 0.17.
judges <- data.frame(
  person = rep(1:6, 4),
  value = c(9, 6, 8, 7, 10, 6, 2, 1, 4, 1, 5, 2, 5, 3, 6, 2, 6, 4, 8, 2, 8, 6, 9, 7))
# Unbalanced: two to six values a person, from a formula, so that no random numbers are needed.
times <- rep(2:6, 8)
uneven <- data.frame(person = rep(seq_along(times), times))
i <- seq_len(nrow(uneven))
uneven$value <- 50 + 8 * sin(uneven$person * 12.9898) + 3 * cos(i * 78.233)
write.csv(uneven, "uneven.csv", row.names = FALSE)

figures <- function(d) {
  table <- anova(aov(value ~ factor(person), data = d))
  between <- table[1, "Mean Sq"]; within <- table[2, "Mean Sq"]
  df1 <- table[1, "Df"]; df2 <- table[2, "Df"]
  sizes <- as.numeric(table(d$person))
  n0 <- (sum(sizes) - sum(sizes^2) / sum(sizes)) / (length(sizes) - 1)
  f <- between / within
  lo <- f / qf(0.975, df1, df2); hi <- f * qf(0.975, df2, df1)
  list(icc = (f - 1) / (f + n0 - 1), icc_lo = (lo - 1) / (lo + n0 - 1),
       icc_hi = (hi - 1) / (hi + n0 - 1), within_sd = sqrt(within),
       within_sd_lo = sqrt(within * df2 / qchisq(0.975, df2)),
       within_sd_hi = sqrt(within * df2 / qchisq(0.025, df2)),
       n_values = nrow(d), n_people = length(sizes))
}
out <- list(versions = list(R = as.character(getRversion())), judges = figures(judges),
            uneven = figures(uneven), judges_data = judges)
write(toJSON(out, digits = 15, auto_unbox = TRUE, pretty = TRUE), "expected.json")
