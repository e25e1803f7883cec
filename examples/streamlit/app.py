"""The page of Savings planner."""

import pandas as pd
import streamlit as st

from plan import grow

st.set_page_config(page_title="Savings planner", page_icon="🌰", layout="wide")
st.title("🌰 Savings planner")
st.caption("What a monthly sum becomes over the years, and what it will be worth.")

controls, chart = st.columns([1, 2], gap="large")
with controls:
    monthly = st.slider("Monthly sum", min_value=10, max_value=2000, value=150, step=10)
    years = st.slider("Years", min_value=1, max_value=50, value=20)
    rate = st.slider("Interest per year (%)", min_value=0.0, max_value=12.0, value=4.0, step=0.1)
    inflation = st.slider("Inflation per year (%)", min_value=0.0, max_value=10.0, value=2.0, step=0.1)

course = grow(monthly, years, rate, inflation)
end = course[-1]
with controls:
    st.metric("In the end", f"{end.value:,.0f}", f"{end.value - end.paid_in:+,.0f} interest")
    st.metric("In today's money", f"{end.real_value:,.0f}", f"{end.real_value - end.value:+,.0f}")
with chart:
    table = pd.DataFrame(
        {"Value": [y.value for y in course], "Paid in": [y.paid_in for y in course],
         "In today's money": [y.real_value for y in course]},
        index=pd.Index([y.year for y in course], name="Year"),
    )
    st.line_chart(table, height=420)
