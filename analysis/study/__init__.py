"""A study: its settings, its inputs, and the people that it analyses.

- `settings`: what a study file may say (`Study`);
- `inputs`: the study file and the tables that it names (`load_study`, `read_inputs`);
- `predictions`, `people`: the ECGs and the participants; groups by age and BMI;
- `cmr`: pairs of ECGs and CMR examinations;
- `data`: all that is analysed (`StudyData`, `read_study_data`) and what a report says of it;
- `outcomes`: the Cox models, their rows and estimates.
"""
