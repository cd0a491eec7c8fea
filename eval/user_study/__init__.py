"""A user study in StableAnimator's form (Table 6): two clips side by side, four questions, one static page, and the table of its answers.

questions.py what is asked; study.py makes the page (eval/templates/user_study.html); answers.py reads what raters saved;
preference.py and agreement.py are the arithmetic; table.py lays the table out beside the printed one.
"""
